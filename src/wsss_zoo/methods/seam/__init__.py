"""SEAM: self-supervised equivariant attention."""
