"""What the measurements say: tables, located variables and the verdict."""
