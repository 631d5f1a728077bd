"""How good offers are: real files with holes, filled by a model as it is and through the daemon.

    python -m tests.benchmarks.fim --provider ollama --model qwen2.5-coder:1.5b-base
    python -m tests.benchmarks.fim --url http://localhost:8080 --backend llamacpp
    python -m tests.benchmarks.fim --embedded --context-tokens 256    # SmolLM2-135M: weak, but always here

Holes are cut from the Python and JavaScript files that are installed on the machine, or from `--files`.
Each is filled twice: *plain* is `ollm/infill` with the text around the hole and nothing else, its answer
as it is; *daemon* is `textDocument/inlineCompletion` on the open document with its neighbours open too,
as an editor asks. The same seed on the same files cuts the same holes.

Where to find what: `holes` cuts, `writers` fill, `scores` count and print, `embedded` is the model that is
always here.
"""
