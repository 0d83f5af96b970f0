/** What OpenAI's own servers and models accept: its API rejects the rest. Nothing is known of others. */
import { type ChatRequest, defaults } from "../ChatRequest.js"

/** Whether an address is one of OpenAI's own servers, or of Azure's. */
export const isOpenAI = (url: string): boolean => /^https?:\/\/([^/]*\.)?openai\.(azure\.)?com(:|\/|$)/.test(url)

/** `o4-mini`, `gpt-5`, `gpt-5.2-codex`, `ft:o4-mini:me`, on Azure also `team-gpt-5-mini`; not `gpt-4o`, not `gpt-oss`. */
const name = /(?:^|[/:_-])(?:(o)\d|gpt-(\d+(?:\.\d+)?))(?![\w.])(-chat)?/

/** The version of a model that reasons, 0 for those before GPT-5; undefined for others. */
const reasoningVersion = (model: string): number | undefined => {
  const found = name.exec(model.toLowerCase())
  if (found === null) return undefined
  if (found[1] !== undefined) return 0
  const version = Number(found[2])
  return version < 5 || (version === 5 && found[3] !== undefined) ? undefined : version
}

const effortOf = (
  think: NonNullable<ChatRequest["think"]>,
  model: string,
  version: number | undefined
): string | undefined => {
  switch (think) {
    case true:
      return "medium"
    case false:
      if (version === undefined) return undefined
      return version === 5 ? "minimal" : "none"
    case "max":
      return (version ?? 0) >= 5.2 || /-codex-max/.test(model) ? "xhigh" : "high"
    default:
      return think
  }
}

/** The sampling and reasoning fields of a request. Models that reason take no other values than their own. */
export const fields = ({
  defaultTemperature,
  model,
  temperature,
  think,
  topP
}: ChatRequest): {
  readonly temperature: number | undefined
  readonly top_p: number | undefined
  readonly reasoning_effort: string | undefined
} => {
  const version = reasoningVersion(model)
  const reasons = version !== undefined
  return {
    // 1 is what they do without it.
    temperature: reasons && (defaultTemperature === true || temperature === 1) ? undefined : temperature,
    top_p: reasons && topP === defaults.topP ? undefined : topP,
    reasoning_effort: think === undefined ? undefined : effortOf(think, model, version)
  }
}
