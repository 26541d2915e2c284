"""What the benchmarks measure beside the product: plain applications, as their documentation
would have them, and the product's own servers without any storing."""
