"""A small shop, written without the package: tests/adoption/adopt.patch is what adopting it takes."""
