//! Who a node is: the data folder, its lock, its disk id and its place in a cluster (P/N1).
