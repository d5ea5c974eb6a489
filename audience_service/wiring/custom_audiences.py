"""Builds CustomAudienceService: uploads, lookalikes, pixels, and the jobs that refresh them."""

from dataclasses import dataclass

from audience_service.domain.core.erased import ErasedKeys
from audience_service.domain.core.jobs import JobLimits, JobRunner
from audience_service.domain.core.quotas import Quota
from audience_service.domain.custom_audiences.deletion import CustomAudienceDeleter
from audience_service.domain.custom_audiences.errors import TooManyLookalikes, TooManyRefreshes
from audience_service.domain.custom_audiences.model import CustomType
from audience_service.domain.custom_audiences.pixel import RETARGETING_PIXEL
from audience_service.domain.custom_audiences.repository import Refresher, Refreshers, SpecValidators
from audience_service.domain.custom_audiences.service import CustomAudiences
from audience_service.domain.custom_audiences.spec_validation import SpecValidator
from audience_service.domain.lookalikes.audience_type import LOOKALIKE
from audience_service.domain.lookalikes.service import Lookalikes
from audience_service.domain.uploads.audience_types import CUSTOMER_MATCH, FILE_UPLOAD
from audience_service.domain.uploads.publisher import Publisher
from audience_service.domain.uploads.rematching import UploadRematcher
from audience_service.domain.uploads.service import Uploads
from audience_service.mongo.store import Store
from audience_service.rpc.services.custom_audience import CustomAudienceServicer
from audience_service.settings import Settings
from audience_service.wiring.core import Core

_MAX_WAITING_REFRESHES = 60
"""The most refreshes of uploaded lists that wait in one process, in addition to those that run."""


@dataclass(frozen=True, slots=True)
class CustomAudienceFeature:
    """The servicer, and the runners of its background jobs."""

    servicer: CustomAudienceServicer
    runners: tuple[JobRunner, ...]

    def close(self) -> None:
        """Stop the jobs."""
        for runner in self.runners:
            runner.close()


def build_custom_audiences(settings: Settings, core: Core, store: Store, erased: ErasedKeys) -> CustomAudienceFeature:
    """The feature of this process."""
    custom, tokens = store.custom_audiences, core.tokens
    publisher = Publisher(custom, store.upload_storage, settings.upload_max_shrink_share)
    rematcher = UploadRematcher(
        custom, store.upload_storage, store.identifiers, publisher, settings.hash_secret(), erased
    )
    lookalikes = Lookalikes(
        custom, core.audiences, store.lookalikes, store.members, store.samples, settings.insights_min_bucket_size
    )
    validators: SpecValidators = {
        **dict.fromkeys(CustomType, SpecValidator(core.audiences).validate),
        CustomType.LOOKALIKE: lookalikes.validate,
    }
    lease_seconds = settings.snapshot_lease_seconds
    training = JobRunner(
        "lookalike",
        JobLimits(settings.max_concurrent_lookalikes, lease_seconds=lease_seconds),
        TooManyLookalikes.of,
    )
    rematching = JobRunner(
        "rematch", JobLimits(max_waiting=_MAX_WAITING_REFRESHES, lease_seconds=lease_seconds), TooManyRefreshes.of
    )
    upload_refresher = Refresher(rematcher.check, rematcher.refresh, rematching)
    refreshers: Refreshers = {
        CustomType.FILE_UPLOAD: upload_refresher,
        CustomType.CUSTOMER_MATCH: upload_refresher,
        CustomType.LOOKALIKE: Refresher(lookalikes.check, lookalikes.refresh, training, creates=True),
    }
    quota = Quota("custom_audiences", settings.max_custom_audiences_per_org, custom.count, "delete custom audiences")
    audiences = CustomAudiences(custom, store.lists, validators, refreshers, tokens, quota)
    servicer = CustomAudienceServicer(
        audiences,
        CustomAudienceDeleter(custom, audiences, store.uses),
        Uploads(custom, store.upload_storage, store.identifiers, publisher, tokens, settings.hash_secret(), erased),
        lookalikes,
        (FILE_UPLOAD, CUSTOMER_MATCH, LOOKALIKE, RETARGETING_PIXEL),
    )
    return CustomAudienceFeature(servicer, (training, rematching))
