"""The study of docs/results.md: its runs, and the page that is made of them."""
