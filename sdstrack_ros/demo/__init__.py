"""The demonstration and the real node on a recording, as `sdstrack demo` runs them."""
