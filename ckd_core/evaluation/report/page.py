"""The report as one HTML page: everything inline, nothing fetched."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STYLE = """
:root{color-scheme:light;--ink:#1c2733;--soft:#5d6b7a;--line:#dde3ea;--paper:#fff;--wash:#f5f7fa;--mark:#0072b2}
*{box-sizing:border-box}
body{margin:0;background:var(--wash);color:var(--ink);
 font:15px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
header,main{max-width:1240px;margin:0 auto;padding:0 24px}
header{padding-top:28px}h1{font-size:25px;margin:0 0 4px}h2{font-size:18px;margin:0 0 12px}
header p{margin:0;color:var(--soft)}
nav{margin:14px 0 0}nav a{margin-right:18px;color:var(--mark);text-decoration:none}
section{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:20px;
 margin:18px 0;overflow-x:auto}
.grid3{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:14px}
figure{margin:0}figcaption{color:var(--soft);font-size:13px;margin-top:4px}
svg{width:100%;height:auto;display:block}
svg .grid{stroke:#e6ebf0}svg .axis{stroke:#8c99a6;fill:none}svg .marker{stroke:#8c99a6;stroke-dasharray:3 3}
svg .line{fill:none;stroke-width:1.8;stroke-linejoin:round}
svg .tick{font-size:10.5px;fill:#5d6b7a}svg .label{font-size:11.5px;fill:#3a4754}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
thead th{background:var(--wash);position:sticky;top:0;font-weight:600}
table.sortable thead th{cursor:pointer;user-select:none}
table.sortable th[aria-sort=ascending]::after{content:" \\25B2";color:var(--mark)}
table.sortable th[aria-sort=descending]::after{content:" \\25BC";color:var(--mark)}
.scroll{max-height:460px;overflow:auto;border:1px solid var(--line);border-radius:6px}
.key{display:inline-block;width:12px;height:12px;border-radius:3px;margin:0 6px 0 14px;vertical-align:-1px}
.key:first-child{margin-left:0}.legend{margin:0 0 10px;color:var(--soft);font-size:13px}
details{border-top:1px solid var(--line);padding:8px 0}summary{cursor:pointer}
summary b{font-weight:600}summary span{color:var(--soft);margin-left:10px}
.moments{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:14px}
.moments img{width:100%;border-radius:6px;display:block;background:#000}
input[type=search]{padding:6px 10px;border:1px solid var(--line);border-radius:6px;
 margin-bottom:10px;width:260px;font:inherit}
pre{white-space:pre-wrap;font-size:12.5px;color:var(--soft);margin:0}
footer{max-width:1240px;margin:0 auto;padding:0 24px 40px;color:var(--soft);font-size:13px}
"""

_SCRIPT = """
function value(cell){return cell.dataset.v||cell.textContent;}
document.querySelectorAll('table.sortable').forEach(function(table){
  table.querySelectorAll('thead th').forEach(function(head,column){
    head.addEventListener('click',function(){
      var down=head.getAttribute('aria-sort')!=='descending';
      if(column===0){down=head.getAttribute('aria-sort')==='ascending';}
      table.querySelectorAll('thead th').forEach(function(h){h.removeAttribute('aria-sort');});
      head.setAttribute('aria-sort',down?'descending':'ascending');
      var body=table.tBodies[0],rows=Array.prototype.slice.call(body.rows);
      rows.sort(function(a,b){
        var x=value(a.cells[column]),y=value(b.cells[column]);
        var p=parseFloat(x),q=parseFloat(y),order;
        if(column===0||(isNaN(p)&&isNaN(q))){order=x.localeCompare(y,undefined,{numeric:true});}
        else if(isNaN(p)||isNaN(q)){return isNaN(p)?1:-1;}
        else{order=p-q;}
        return down?-order:order;
      });
      rows.forEach(function(r){body.appendChild(r);});
    });
  });
});
document.querySelectorAll('input[data-filter]').forEach(function(box){
  box.addEventListener('input',function(){
    var wanted=box.value.toLowerCase();
    document.querySelectorAll(box.dataset.filter).forEach(function(item){
      item.hidden=item.dataset.name.toLowerCase().indexOf(wanted)<0;
    });
  });
});
"""


def format_number(value: float | int | None) -> str:
    """A number for a table cell."""
    if value is None or value != value:
        return "n/a"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], sortable: bool = False) -> str:
    """Make an HTML table of words and numbers; None is shown as n/a."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = []
    for row in rows:
        cells = [
            f"<td>{escape(cell)}</td>"
            if isinstance(cell, str)
            else f'<td data-v="{"" if cell is None else cell}">{format_number(cell)}</td>'
            for cell in row
        ]
        body.append(f'<tr data-name="{escape(str(row[0]))}">{"".join(cells)}</tr>')
    kind = ' class="sortable"' if sortable else ""
    return f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def legend(items: Sequence[tuple[str, str]]) -> str:
    """Coloured keys: (colour, label)."""
    keys = "".join(f'<i class="key" style="background:{color}"></i>{escape(label)}' for color, label in items)
    return f'<p class="legend">{keys}</p>'


def page(title: str, subtitle: str, sections: Mapping[str, str], footer: str) -> str:
    """The whole document; sections: heading -> inner HTML, in order."""
    anchors = {heading: f"s{index}" for index, heading in enumerate(sections)}
    nav = "".join(f'<a href="#{anchors[heading]}">{escape(heading)}</a>' for heading in sections)
    body = "".join(
        f'<section id="{anchors[heading]}"><h2>{escape(heading)}</h2>{inner}</section>'
        for heading, inner in sections.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{_STYLE}</style></head><body>'
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p><nav>{nav}</nav></header>"
        f"<main>{body}</main><footer>{escape(footer)}</footer><script>{_SCRIPT}</script></body></html>\n"
    )
