"""Settings of the audit."""

from pydantic import BaseModel, Field

from kit.config.adjustable import adjustable


class AuditSettings(BaseModel):
    """How long the audit is kept."""

    audit_retention_years: int = Field(
        10,
        ge=1,
        le=100,
        description="entries of the audit are kept so long; the hashes of their blocks for ever",
        json_schema_extra=adjustable("audit.retention", unit="y"),
    )
    # 20,000 tokens are 0.5 MB a minute and process.
    audit_telemetry_days: int = Field(
        90,
        ge=1,
        le=36_500,
        description="counts of requests with readings, by token and minute, are kept so long",
        json_schema_extra=adjustable("audit.telemetry_retention", unit="d"),
    )


GROUP = AuditSettings
