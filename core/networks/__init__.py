"""Networks with an encoder, a bottleneck h and a decoder."""
