"""Files on this machine and in object stores behind one interface: paths, patterns, whole writes, mirrors, identities."""
