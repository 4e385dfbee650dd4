"""Weights in (PyTorch, safetensors, MXNet, Caffe; published key layouts) and out (safetensors)."""
