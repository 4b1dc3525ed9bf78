"""What depth (`distance`, by `box_depth`), colours (`colours`) and the network's features (`features`) say of boxes.

`witnesses` asks them.
"""
