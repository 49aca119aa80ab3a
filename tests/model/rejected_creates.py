"""Transitions of creates with a key, and of the clean-up of keys, that a promise must reject."""

from typing import Final

from prompt_studio_model import operations as op
from tests.model.rows import NOW
from tests.model.transitions import (
    BOB,
    KEYED,
    MADE_KEY,
    MADE_ONCE,
    NOTHING,
    ONCE,
    QUEUED,
    USED,
    Case,
    key,
    once,
    went,
    world,
)

REJECTED_CREATES: Final = (
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a key without its job",
        once(op.Made(MADE_ONCE, created=True), keys=(MADE_KEY,)),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a job without its key",
        once(op.Made(MADE_ONCE, created=True), MADE_ONCE, keys=()),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a key that stands for nothing yet",
        once(op.Made(MADE_ONCE, created=True), MADE_ONCE, keys=(MADE_KEY._replace(entity_id=0),)),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a key without the fingerprint of its request",
        once(op.Made(MADE_ONCE, created=True), MADE_ONCE, keys=(MADE_KEY._replace(fingerprint=None),)),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "two jobs for one key",
        once(op.Made(MADE_ONCE, created=True), MADE_ONCE, MADE_ONCE._replace(id=6), keys=(MADE_KEY,)),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a first create that is told of an earlier one",
        once(op.Made(MADE_ONCE, created=False), MADE_ONCE, keys=(MADE_KEY,)),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a second job for a known key",
        once(op.Made(MADE_ONCE, created=True), QUEUED, MADE_ONCE, keys=USED.keys, before=USED),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a lost second create that made another job",
        went(USED, op.LoseReply(call=ONCE), NOTHING, USED._replace(jobs=(QUEUED, MADE_ONCE), next_id=6)),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "another request that is told of the first one's job",
        went(USED, op.CreateOnce(scope=ONCE.scope, fingerprint="two"), op.Made(QUEUED, created=False), USED),
    ),
    Case("INV-ONE-EFFECT-PER-KEY", "the same request that is refused", went(USED, ONCE, op.Mismatch(), USED)),
    Case("INV-ONE-EFFECT-PER-KEY", "a job that is there and called gone", went(USED, ONCE, op.Gone(), USED)),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a lost create that left its key alone",
        went(world(), op.LoseReply(call=ONCE), NOTHING, world(keys=(MADE_KEY,))),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a lost create that left its job alone",
        went(world(), op.LoseReply(call=ONCE), NOTHING, world(MADE_ONCE, next_id=6)),
    ),
    Case(
        "INV-ONE-EFFECT-PER-KEY",
        "a clean-up of a key that counts",
        went(KEYED, op.CleanupKeys(), op.Number(2), KEYED._replace(keys=())),
    ),
    Case(
        "INV-NO-CROSS-USER",
        "a create that is told of another user's job",
        once(
            op.Made(QUEUED, created=False),
            QUEUED,
            keys=(key(BOB._replace(entity_type="job"), 1),),
            before=world(QUEUED, keys=(key(BOB._replace(entity_type="job"), 1),)),
        ),
    ),
    Case(
        "INV-NO-CROSS-USER",
        "a create that is refused for another user's request",
        once(
            op.Mismatch(),
            QUEUED,
            keys=(key(BOB._replace(entity_type="job"), 1),),
            before=world(QUEUED, keys=(key(BOB._replace(entity_type="job"), 1),)),
        ),
    ),
    Case(
        "INV-NOTHING-LOST",
        "a create with a key that is not there",
        once(op.Made(MADE_ONCE, created=True), keys=(MADE_KEY,)),
    ),
    Case(
        "INV-NOTHING-LOST",
        "a create with a key that made two",
        once(op.Made(MADE_ONCE, created=True), MADE_ONCE, MADE_ONCE._replace(id=6), keys=(MADE_KEY,)),
    ),
    Case(
        "INV-REPLAY-SAFE",
        "a second create with a key that makes another job",
        once(op.Made(MADE_ONCE, created=True), QUEUED, MADE_ONCE, keys=USED.keys, before=USED),
    ),
    Case(
        "INV-REPLAY-SAFE",
        "a second create with a key that writes its row again",
        once(
            op.Made(QUEUED, created=False),
            QUEUED,
            keys=(USED.keys[0]._replace(created_at=NOW + 1),),
            before=USED,
        ),
    ),
)
