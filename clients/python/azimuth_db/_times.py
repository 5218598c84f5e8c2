"""Moments: datetimes and integers to microseconds since 1970 UTC, and back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from ._values import INT64_MAX, type_name

Moment = Union[datetime, int]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(moment: object, where: str) -> int:
    """Returns microseconds; TypeError or ValueError names what is wrong."""
    if isinstance(moment, np.datetime64):
        if np.isnat(moment):
            raise ValueError(f"{where}: not a time (NaT)")
        return int(moment.astype("datetime64[us]").astype(np.int64))
    if isinstance(moment, np.generic):
        moment = moment.item()
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError(f"{where}: {moment} has no time zone; say datetime.now(timezone.utc)")
        return (moment - _EPOCH) // _MICROSECOND
    if not isinstance(moment, int) or isinstance(moment, bool):
        raise TypeError(
            f"{where}: expected a datetime or int microseconds since 1970, got {type_name(moment)}"
        )
    if not 0 <= moment <= INT64_MAX:
        raise ValueError(f"{where}: expected 0 (never) or microseconds since 1970, got {moment}")
    return moment


def to_micros_column(moments: Any, rows: int, where: str) -> npt.NDArray[np.int64]:
    """Returns the microseconds of `rows` rows, from one moment for all or one for each."""
    is_many = isinstance(moments, Iterable) and not isinstance(moments, (str, bytes))
    if not is_many or (isinstance(moments, np.ndarray) and moments.ndim == 0):
        one = moments[()] if isinstance(moments, np.ndarray) else moments
        return np.full(rows, to_micros(one, where), np.int64)
    listed = list(moments)
    if len(listed) != rows:
        raise ValueError(f"{where}: expected one time or {rows}, one per record, got {len(listed)}")
    micros = (to_micros(moment, f"{where}[{i}]") for i, moment in enumerate(listed))
    return np.fromiter(micros, np.int64, rows)


def from_micros(micros: int) -> datetime | None:
    """Returns the datetime, in UTC; None for 0. What is past the year 9999 becomes its end."""
    if micros == 0:
        return None
    try:
        return _EPOCH + micros * _MICROSECOND
    except OverflowError:
        return datetime.max.replace(tzinfo=timezone.utc)
