"""Policies of the promotion gate: made once, never changed, named by id or name."""

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from deft.errors import Conflict, NotFound
from deft.specs import spec_hash, spec_json
from deft.specs.releases import PolicySpec
from store.accounts import Caller
from store.ids import new_id
from store.paging import Order, Page, page_of
from store.release_tables import Policy


def create(session: Session, caller: Caller, spec: PolicySpec) -> Policy:
    """Store the policy; the same rules under the same name again are the policy that is there.

    Raises:
        Conflict: `name_taken`: the name means other rules.
    """
    known = session.scalars(select(Policy).where(Policy.team_id == caller.team_id, Policy.name == spec.name)).first()
    if known is not None:
        if known.spec_hash != spec_hash(spec):
            raise Conflict("the name means other rules, and a policy is never changed", code="name_taken")
        return known
    row = Policy(
        id=new_id("pol"),
        team_id=caller.team_id,
        key_id=caller.key_id,
        name=spec.name,
        spec=spec_json(spec),
        spec_hash=spec_hash(spec),
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError as error:
        raise Conflict("the name means another policy", code="name_taken") from error
    return row


def get(session: Session, team_id: str, id_or_name: str) -> Policy:
    """Return the team's policy.

    Raises:
        NotFound: the team has no such policy.
    """
    is_meant = or_(Policy.id == id_or_name, Policy.name == id_or_name)
    found = list(session.scalars(select(Policy).where(Policy.team_id == team_id, is_meant)))
    if not found:
        raise NotFound("there is no such policy")
    return min(found, key=lambda policy: policy.id != id_or_name)


def page(
    session: Session, team_id: str, *, limit: int = 50, after: str | None = None, order: Order = "desc"
) -> Page[Policy]:
    """Return a page of the team's policies.

    Raises:
        InvalidInput: `limit` is out of range, or `after` is no item of this list.
    """
    return page_of(session, select(Policy).where(Policy.team_id == team_id), Policy, limit, after, order)


def spec_of(policy: Policy) -> PolicySpec:
    """Return the policy's rules."""
    return PolicySpec.model_validate(policy.spec)
