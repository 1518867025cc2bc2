"""Models in other forms: C, ONNX, PyTorch, scikit-learn.

Each exporter reads the lowered program of a network (`fastbp.program`), so a new layer comes along
where its operations are known.  What is read becomes steps, and steps become layers.

==================  ===============================================================
`methods`           `to_c` and others, of networks, ensembles and estimators
`reading`           the instructions of a prediction, and the arrays that they read
`models`            the same of each kind of model, with what surrounds its networks
`c_export`          C files; `write_c` writes several models into one
`c_network`         a network's instructions in C
`c_encoder`         a table's columns in C
`c_sources`         the kernels' formulas in C, read from kernels/simd and `network.h`
`int8`, `c_int8`    networks in 8-bit integers, and these in C
`onnx_writing`      `to_onnx`
`onnx_functions`    layers that ONNX has no operators for
`onnx_reading`      `from_onnx`
`onnx_files`        the nodes and arrays of a file, read with care
`onnx_operators`    what each operator does
`torch_modules`     `to_torch`
`torch_operations`  the operations of a prediction on PyTorch's tensors
`torch_reading`     `from_torch`
`torch_names`       weights under PyTorch's names
`steps`, `pairs`    what a graph does to its input, step by step, as layers
`sklearn_models`    `from_sklearn`
==================  ===============================================================
"""
