"""Models in other forms: C, ONNX, PyTorch, scikit-learn.

Each exporter reads the lowered program of a network (`fastbp.program`), so a new layer comes along
where its operations are known.

==============  ===================================================================
`methods`       `to_c` and others, of networks, ensembles and estimators
`reading`       the instructions of a prediction, and the arrays that they read
`models`        the same of each kind of model, with what surrounds its networks
`sklearn_models`  networks of scikit-learn
`c_export`      C files
`c_network`     a network's instructions in C
`c_encoder`     a table's columns in C
`c_sources`     the kernels' formulas in C, read from kernels/simd and `network.h`
==============  ===================================================================

`write_c` of `c_export` writes several models into one file.
"""
