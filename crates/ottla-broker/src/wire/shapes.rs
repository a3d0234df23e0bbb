//! The layout of every request, for the guard only: what has a length, what has a count.

use std::ops::RangeInclusive;

use crate::api::Api;

pub(crate) struct Field {
    pub(crate) versions: RangeInclusive<i16>,
    pub(crate) ty: Ty,
}

pub(crate) enum Ty {
    Fixed(usize),
    Str,
    Bytes,
    Array(&'static Self),
    Structs(&'static [Field]),
}

const ALL: RangeInclusive<i16> = 0..=i16::MAX;
const I8: Ty = Ty::Fixed(1);
const I16: Ty = Ty::Fixed(2);
const I32: Ty = Ty::Fixed(4);
const I64: Ty = Ty::Fixed(8);
const UUID: Ty = Ty::Fixed(16);

const fn f(ty: Ty) -> Field {
    Field { versions: ALL, ty }
}

const fn since(min: i16, ty: Ty) -> Field {
    Field { versions: min..=i16::MAX, ty }
}

const fn between(min: i16, max: i16, ty: Ty) -> Field {
    Field { versions: min..=max, ty }
}

const INTS: Ty = Ty::Array(&I32);
const STRINGS: Ty = Ty::Array(&Ty::Str);

pub(crate) fn request(api: Api) -> &'static [Field] {
    match api {
        Api::Produce => {
            const {
                &[
                    f(Ty::Str),
                    f(I16),
                    f(I32),
                    f(Ty::Structs(
                        const {
                            &[
                                between(3, 12, Ty::Str),
                                since(13, UUID),
                                f(Ty::Structs(const { &[f(I32), f(Ty::Bytes)] })),
                            ]
                        },
                    )),
                ]
            }
        }
        Api::Fetch => FETCH,
        Api::ListOffsets => {
            const {
                &[
                    f(I32),
                    since(2, I8),
                    f(Ty::Structs(
                        const { &[f(Ty::Str), f(Ty::Structs(const { &[f(I32), since(4, I32), f(I64)] }))] },
                    )),
                    since(10, I32),
                ]
            }
        }
        Api::Metadata => {
            const {
                &[
                    f(Ty::Structs(const { &[since(10, UUID), f(Ty::Str)] })),
                    since(4, I8),
                    between(8, 10, I8),
                    since(8, I8),
                ]
            }
        }
        Api::OffsetCommit => {
            const {
                &[
                    f(Ty::Str),
                    f(I32),
                    f(Ty::Str),
                    since(7, Ty::Str),
                    between(2, 4, I64),
                    f(Ty::Structs(
                        const {
                            &[
                                between(2, 9, Ty::Str),
                                since(10, UUID),
                                f(Ty::Structs(const { &[f(I32), f(I64), since(6, I32), f(Ty::Str)] })),
                            ]
                        },
                    )),
                ]
            }
        }
        Api::OffsetFetch => {
            const {
                &[
                    between(1, 7, Ty::Str),
                    between(1, 7, Ty::Structs(const { &[f(Ty::Str), f(INTS)] })),
                    since(
                        8,
                        Ty::Structs(
                            const {
                                &[
                                    f(Ty::Str),
                                    since(9, Ty::Str),
                                    since(9, I32),
                                    f(Ty::Structs(
                                        const { &[between(8, 9, Ty::Str), since(10, UUID), f(INTS)] },
                                    )),
                                ]
                            },
                        ),
                    ),
                    since(7, I8),
                ]
            }
        }
        Api::FindCoordinator => const { &[between(0, 3, Ty::Str), since(1, I8), since(4, STRINGS)] },
        Api::JoinGroup => {
            const {
                &[
                    f(Ty::Str),
                    f(I32),
                    since(1, I32),
                    f(Ty::Str),
                    since(5, Ty::Str),
                    f(Ty::Str),
                    f(Ty::Structs(const { &[f(Ty::Str), f(Ty::Bytes)] })),
                    since(8, Ty::Str),
                ]
            }
        }
        Api::Heartbeat => const { &[f(Ty::Str), f(I32), f(Ty::Str), since(3, Ty::Str)] },
        Api::LeaveGroup => {
            const {
                &[
                    f(Ty::Str),
                    between(0, 2, Ty::Str),
                    since(3, Ty::Structs(const { &[f(Ty::Str), f(Ty::Str), since(5, Ty::Str)] })),
                ]
            }
        }
        Api::SyncGroup => {
            const {
                &[
                    f(Ty::Str),
                    f(I32),
                    f(Ty::Str),
                    since(3, Ty::Str),
                    since(5, Ty::Str),
                    since(5, Ty::Str),
                    f(Ty::Structs(const { &[f(Ty::Str), f(Ty::Bytes)] })),
                ]
            }
        }
        Api::DescribeGroups => const { &[f(STRINGS), since(3, I8)] },
        Api::ListGroups => const { &[since(4, STRINGS), since(5, STRINGS)] },
        Api::ApiVersions => const { &[since(3, Ty::Str), since(3, Ty::Str)] },
        Api::CreateTopics => CREATE_TOPICS,
        Api::DeleteTopics => {
            const { &[since(6, Ty::Structs(const { &[f(Ty::Str), f(UUID)] })), between(1, 5, STRINGS), f(I32)] }
        }
        Api::DeleteRecords => {
            const {
                &[
                    f(Ty::Structs(const { &[f(Ty::Str), f(Ty::Structs(const { &[f(I32), f(I64)] }))] })),
                    f(I32),
                ]
            }
        }
        Api::InitProducerId => const { &[f(Ty::Str), f(I32), since(3, I64), since(3, I16)] },
        Api::OffsetForLeaderEpoch => {
            const {
                &[
                    since(3, I32),
                    f(Ty::Structs(
                        const { &[f(Ty::Str), f(Ty::Structs(const { &[f(I32), f(I32), f(I32)] }))] },
                    )),
                ]
            }
        }
        Api::CreatePartitions => {
            const {
                &[
                    f(Ty::Structs(const { &[f(Ty::Str), f(I32), f(Ty::Structs(const { &[f(INTS)] }))] })),
                    f(I32),
                    f(I8),
                ]
            }
        }
        Api::DeleteGroups => const { &[f(STRINGS)] },
        Api::OffsetDelete => {
            const { &[f(Ty::Str), f(Ty::Structs(const { &[f(Ty::Str), f(Ty::Structs(const { &[f(I32)] }))] }))] }
        }
        Api::ConsumerGroupHeartbeat => {
            const {
                &[
                    f(Ty::Str),
                    f(Ty::Str),
                    f(I32),
                    f(Ty::Str),
                    f(Ty::Str),
                    f(I32),
                    f(STRINGS),
                    since(1, Ty::Str),
                    f(Ty::Str),
                    f(Ty::Structs(const { &[f(UUID), f(INTS)] })),
                ]
            }
        }
        Api::ConsumerGroupDescribe => const { &[f(STRINGS), f(I8)] },
        Api::DescribeCluster => const { &[f(I8), since(1, I8), since(2, I8)] },
    }
}

const FETCH: &[Field] = &[
    between(4, 14, I32),
    f(I32),
    f(I32),
    f(I32),
    f(I8),
    since(7, I32),
    since(7, I32),
    f(Ty::Structs(
        const {
            &[
                between(4, 12, Ty::Str),
                since(13, UUID),
                f(Ty::Structs(
                    const { &[f(I32), since(9, I32), f(I64), since(12, I32), since(5, I64), f(I32)] },
                )),
            ]
        },
    )),
    since(7, Ty::Structs(const { &[between(7, 12, Ty::Str), since(13, UUID), f(INTS)] })),
    since(11, Ty::Str),
];

const CREATE_TOPICS: &[Field] = &[
    f(Ty::Structs(
        const {
            &[
                f(Ty::Str),
                f(I32),
                f(I16),
                f(Ty::Structs(const { &[f(I32), f(INTS)] })),
                f(Ty::Structs(const { &[f(Ty::Str), f(Ty::Str)] })),
            ]
        },
    )),
    f(I32),
    f(I8),
];
