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
