"""Speed, printed and never asserted: `make bench`. One part a file."""
