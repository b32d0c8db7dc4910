"""Azure OpenAI: chat completions by deployment, with a key header of its own."""

from urllib.parse import quote

from pipeline.providers.capabilities import Options
from pipeline.providers.openai import OpenAIAdapter
from pipeline.records import Model


class AzureAdapter(OpenAIAdapter):
    """OpenAI's dialect at `https://NAME.openai.azure.com/openai`; `api_name` is the name of the deployment."""

    def headers(self, key: str | None) -> dict[str, str]:
        """Return content type and, where there is a *key*, `api-key`."""
        headers = {"content-type": "application/json"}
        return headers if key is None else headers | {"api-key": key}

    def path_of(self, model: Model, options: Options) -> str:
        """Return the path of the deployment, or that of the API without versions."""
        if options.api_version == "v1":
            return "/v1/chat/completions"
        name = quote(model.wire_name, safe="")
        return f"/deployments/{name}/chat/completions?api-version={quote(options.api_version, safe='')}"
