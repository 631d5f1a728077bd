"""What the daemon costs beside reading the same stream by hand, with httpx or with a client library.

    python -m tests.benchmarks                       # everything, under six minutes
    python -m tests.benchmarks --quick --check       # under a minute; exit code 1 when a limit is missed
    python -m tests.benchmarks burst paced           # some measurements
    python -m tests.benchmarks --peers               # beside other projects too, installed on demand
    python -m tests.benchmarks --markdown docs/performance.md

Method: the upstream and every candidate are processes of their own on one machine. A measurement takes
all its candidates round by round, in an order drawn anew for each round; the first round only warms up.
Shown are medians, and ratios as the median of the ratios within each round, so that what else the
machine does cancels out. CPU is the candidate's own user and system time, read from outside with its
process clock, so every candidate is measured in the same way and none pays for it. Times across
processes are `CLOCK_MONOTONIC`, which processes share.

Where to find what: `scenario` is what an upstream can be asked for and `upstream` the process that does
it; `readers` are the candidates that read a stream themselves, `floor_stub` and `floor_daemon` the least
that a daemon can be, `candidates` the table of all of them; `measurements/` is what is measured,
`limits` what must hold, `report` what is printed.

The measurements read `/proc` and use process clocks of Linux; they run nowhere else.
"""
