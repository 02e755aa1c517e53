"""Which payment providers there are, by the settings."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from billing.payments.manual import ManualProvider
from billing.payments.provider import PaymentProvider
from kit.clock import Clock
from kit.settings import Settings


@asynccontextmanager
async def open_providers(settings: Settings, clock: Clock) -> AsyncIterator[Mapping[str, PaymentProvider]]:
    """The providers by name: manual always, Stripe where its key is set."""
    providers: dict[str, PaymentProvider] = {ManualProvider.name: ManualProvider()}
    if settings.stripe_key:
        # Imported here: the library takes 0.7 s and 12 MB, which only those who use it should pay.
        from billing.payments.stripe_provider import StripeProvider

        providers[StripeProvider.name] = StripeProvider(
            settings.stripe_key, settings.stripe_webhook_secret, clock, api_base=settings.stripe_api_base
        )
    try:
        yield providers
    finally:
        for provider in providers.values():
            await provider.close()
