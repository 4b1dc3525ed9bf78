"""What comes into the node: topics, their QoS, and what to say when nothing comes."""
