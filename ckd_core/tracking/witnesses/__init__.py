"""What depth (`distance`, by `box_depth`) and colours (`colours`) say of boxes; `witnesses` asks them."""
