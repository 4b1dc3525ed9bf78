"""What training minimises: tracking losses, both distillations, the dense loss of the small networks."""
