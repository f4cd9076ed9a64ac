"""What keeps a repository healthy and makes it its own: expiry, collection, checks, copies."""
