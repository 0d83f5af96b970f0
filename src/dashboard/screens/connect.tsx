import { useEffect, useState } from "preact/hooks"
import { address, get } from "../api"
import { Code, Title } from "../parts/small"
import { fleet, useStore } from "../store"

interface Client {
  readonly name: string
  readonly about: string
  readonly blocks: (at: string, model: string, key: string) => ReadonlyArray<readonly [label: string, text: string]>
}

const clients: ReadonlyArray<Client> = [
  {
    name: "Codex",
    about: "OpenAI's Responses API.",
    blocks: (at, model, key) => [
      [
        "~/.codex/config.toml",
        `model = "${model}"\nmodel_provider = "aicortex"\n\n[model_providers.aicortex]\nname = "aicortex"\nbase_url = "${at}/v1"\nenv_key = "AICORTEX_API_KEY"\nwire_api = "responses"`
      ],
      ["shell", `export AICORTEX_API_KEY=${key}\ncodex`]
    ]
  },
  {
    name: "Claude Code",
    about: "Anthropic's Messages API.",
    blocks: (at, model, key) => [
      [
        "shell",
        `export ANTHROPIC_BASE_URL=${at}\nexport ANTHROPIC_AUTH_TOKEN=${key}\nexport ANTHROPIC_MODEL=${model}\nexport ANTHROPIC_DEFAULT_HAIKU_MODEL=${model}\nclaude`
      ]
    ]
  },
  {
    name: "opencode",
    about: "OpenAI's chat completions.",
    blocks: (at, model, key) => [
      [
        "opencode.json",
        JSON.stringify(
          {
            $schema: "https://opencode.ai/config.json",
            model: `aicortex/${model}`,
            small_model: `aicortex/${model}`,
            provider: {
              aicortex: {
                npm: "@ai-sdk/openai-compatible",
                options: { baseURL: `${at}/v1`, apiKey: key },
                models: { [model]: { tool_call: true } }
              }
            }
          },
          null,
          2
        )
      ]
    ]
  },
  {
    name: "Open WebUI",
    about:
      "As one Ollama server: its model list has the models of all servers. A container reaches the gateway only if it does not listen on loopback alone.",
    blocks: (at, _, key) => [
      [
        "compose.yaml",
        `services:\n  open-webui:\n    image: ghcr.io/open-webui/open-webui:main\n    ports: ["3000:8080"]\n    environment:\n      OLLAMA_BASE_URL: ${at.replace(/\/\/(127\.0\.0\.1|localhost|\[::1\])/, "//host.docker.internal")}\n    extra_hosts: ["host.docker.internal:host-gateway"]`
      ],
      ["key, under Admin Settings, Connections", key]
    ]
  },
  {
    name: "Continue",
    about: "Chat, edit and completion in the editor.",
    blocks: (at, model, key) => [
      [
        "~/.continue/config.yaml",
        `name: aicortex\nversion: 0.0.1\nschema: v1\nmodels:\n  - name: Chat\n    provider: openai\n    model: ${model}\n    apiBase: ${at}/v1\n    apiKey: ${key}\n    roles: [chat, edit, apply]`
      ]
    ]
  },
  {
    name: "Cursor",
    about: "Under Settings, Models. Cursor's own servers call the address, so it must be reachable from the internet.",
    blocks: (at, model, key) => [
      ["Override OpenAI Base URL", `${at}/v1`],
      ["OpenAI API Key", key],
      ["Custom model", model]
    ]
  },
  {
    name: "LangChain",
    about: "Python.",
    blocks: (at, model, key) => [
      [
        "python",
        `from langchain_openai import ChatOpenAI\n\nmodel = ChatOpenAI(model="${model}", base_url="${at}/v1", api_key="${key}")\nprint(model.invoke("Why is the sky blue?").content)`
      ]
    ]
  },
  {
    name: "OpenAI SDK",
    about: "TypeScript and Python.",
    blocks: (at, model, key) => [
      [
        "typescript",
        `import OpenAI from "openai"\n\nconst client = new OpenAI({ baseURL: "${at}/v1", apiKey: "${key}" })\nconst answer = await client.chat.completions.create({\n  model: "${model}",\n  messages: [{ role: "user", content: "Why is the sky blue?" }]\n})\nconsole.log(answer.choices[0].message.content)`
      ],
      [
        "python",
        `from openai import OpenAI\n\nclient = OpenAI(base_url="${at}/v1", api_key="${key}")\nanswer = client.chat.completions.create(\n    model="${model}",\n    messages=[{"role": "user", "content": "Why is the sky blue?"}],\n)\nprint(answer.choices[0].message.content)`
      ]
    ]
  },
  {
    name: "Anthropic SDK",
    about: "TypeScript.",
    blocks: (at, model, key) => [
      [
        "typescript",
        `import Anthropic from "@anthropic-ai/sdk"\n\nconst client = new Anthropic({ baseURL: "${at}", authToken: "${key}" })\nconst answer = await client.messages.create({\n  model: "${model}",\n  max_tokens: 1024,\n  messages: [{ role: "user", content: "Why is the sky blue?" }]\n})`
      ]
    ]
  },
  {
    name: "Ollama clients",
    about: "Any program that speaks to Ollama.",
    blocks: (at, model) => [["shell", `export OLLAMA_HOST=${at}\nollama run ${model} "Why is the sky blue?"`]]
  },
  {
    name: "aicortex",
    about: "The library and the command line.",
    blocks: (at, model, key) => [
      [
        "shell",
        `AICORTEX_SERVERS=${at}/v1 AICORTEX_API_KEY=${key} aicortex chat "Why is the sky blue?" --model ${model}`
      ],
      [
        "typescript",
        `import { createCortex } from "aicortex/promise"\n\nconst cortex = await createCortex({ servers: [{ url: "${at}/v1", apiKey: "${key}" }] })\nconst { text } = await cortex.chat("Why is the sky blue?", { model: "${model}" })`
      ]
    ]
  }
]

/** Ready-made settings with this gateway's address. */
export const Connect = () => {
  const [names, setNames] = useState<ReadonlyArray<string>>(["auto"])
  const [model, setModel] = useState("auto")
  const [chosen, setChosen] = useState(clients[0]?.name ?? "")
  const key = useStore(fleet)?.keys === true ? "YOUR_KEY" : "not-needed"
  useEffect(() => {
    get<{ data: ReadonlyArray<{ id: string }> }>("/v1/models").then(
      ({ data }) => setNames([...new Set(["auto", ...data.map(({ id }) => id)])]),
      () => {}
    )
  }, [])
  const client = clients.find(({ name }) => name === chosen) ?? clients[0]
  const at = address()
  return (
    <>
      <Title name="Connect">
        <label class="inline">
          Model{" "}
          <select value={model} onChange={(event) => setModel(event.currentTarget.value)}>
            {names.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
      </Title>
      <div class="addresses">
        <Code label="OpenAI" text={`${at}/v1`} />
        <Code label="Anthropic and Ollama" text={at} />
      </div>
      <div class="tabs" role="group" aria-label="Program">
        {clients.map(({ name }) => (
          <button type="button" key={name} aria-pressed={name === chosen} onClick={() => setChosen(name)}>
            {name}
          </button>
        ))}
      </div>
      {client === undefined ? null : (
        <section class="card" aria-label={client.name}>
          <h2>{client.name}</h2>
          <p class="dim">{client.about}</p>
          {client.blocks(at, model, key).map(([label, text]) => (
            <Code key={label} label={label} text={text} />
          ))}
        </section>
      )}
    </>
  )
}
