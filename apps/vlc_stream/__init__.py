"""The cabin's video: channels and imposed video over multicast, and the overhead screens."""
