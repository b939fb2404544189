"""What a start costs: pyns beside the bare-C floor and beside what people use instead."""
