//! The names of what can be asked of a store, for the decorators that count and disturb it.

/// What is asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationKind {
    Put,
    Get,
    GetRange,
    List,
    Delete,
    /// creating, releasing or restoring the reserve
    Reserve,
}

impl OperationKind {
    pub const ALL: [OperationKind; 6] =
        [Self::Put, Self::Get, Self::GetRange, Self::List, Self::Delete, Self::Reserve];

    /// A stable lower-case name, as in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            OperationKind::Put => "put",
            OperationKind::Get => "get",
            OperationKind::GetRange => "get_range",
            OperationKind::List => "list",
            OperationKind::Delete => "delete",
            OperationKind::Reserve => "reserve",
        }
    }
}

/// One call of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// counts from 1 over all calls of one decorator
    pub number: u64,
    pub kind: OperationKind,
    /// the key or prefix; empty for the reserve
    pub key: String,
}
