"""The three roles. They never import each other; they meet over HTTP."""
