"""Speed, printed and never asserted: `make bench`. One module per part."""
