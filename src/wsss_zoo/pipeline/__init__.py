"""Recipes, stages and the runner. Importing this package does not import torch."""
