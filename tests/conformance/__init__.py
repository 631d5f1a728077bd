"""What each kind of server does, held against what the daemon makes of it: subjects × scenarios.

`evidence` says where a subject's bytes come from and keeps the table, `wire` describes a server as data,
`captured` and `documented` hold the servers, and each test module holds a few scenarios.
"""
