"""What a run looks like: rows, tables, charts, the HTML page, the timeline."""
