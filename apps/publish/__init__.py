"""``ife-publish``: makes and signs, on the ground, the content that aircraft trust."""
