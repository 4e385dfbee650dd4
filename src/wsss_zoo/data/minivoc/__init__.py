"""MiniVOC, the generated data set: shapes and clutter, textures, scenes, rendering, files, data module."""
