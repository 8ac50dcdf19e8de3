"""What is checked of a file before anything in it is trusted: links, types, shapes and sizes."""
