"""Small training runs, and the scripts that tests start as processes of their own."""
