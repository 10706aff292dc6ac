"""The suites of the field (I2P, COCO, Imagenette, UnlearnCanvas) for real models, with the schema of the benchmark."""
