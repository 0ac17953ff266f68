"""Inner loops in C, one extension module a file, built when Caravan is installed. Each takes and fills arrays, or collects what it reads in
an object, and allocates nothing else that outlives a call; what it computes is in whole numbers, so that it is the same on every processor
and with every compiler."""
