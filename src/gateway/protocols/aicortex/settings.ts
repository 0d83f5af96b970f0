/** `GET /settings`: what holds, and where each value comes from; for administrators, without what is secret. */
import * as Redacted from "effect/Redacted"
import type { ShownSetting } from "../../../config/report.js"
import { descriptionOf, unitOf } from "../../../config/setting.js"
import { redactUserInfo } from "../../../Server.js"
import type { GatewayContext } from "../../GatewayContext.js"
import { make, RequestRejected } from "../../http/errorResponse.js"
import type { RequestContext } from "../../http/RequestContext.js"

interface Origin {
  readonly from: "default" | "file" | "environment" | "flag"
  /** The variable, or the flag of `aicortex serve`. */
  readonly by: string | null
}

const originOf = (name: string, { origin, setting }: ShownSetting): Origin => {
  if (origin === "default") return { from: "default", by: null }
  if (origin === "the file") return { from: "file", by: null }
  if (/^[A-Z][A-Z0-9_]*$/.test(origin)) return { from: "environment", by: origin }
  const flag = name === "gateway.keys" ? "api-key" : setting.flag?.name
  return { from: "flag", by: flag === undefined ? null : `--${flag}` }
}

/** `text` is done with each text in it. */
const mapped = (value: unknown, text: (one: string) => string): unknown => {
  if (typeof value === "string") return text(value)
  if (Redacted.isRedacted(value)) return true
  if (Array.isArray(value)) return value.map((one) => mapped(one, text))
  if (typeof value !== "object" || value === null) return value ?? null
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, mapped(one, text)]))
}

/** `GET /settings`. */
export const read = ({ explained, labels, library }: GatewayContext, context: RequestContext): void => {
  if (explained === undefined) {
    const message = "The settings of this gateway are those that the program gives which it is a part of."
    throw new RequestRejected(make(404, message, "no_settings"))
  }
  const servers = new Set(library.settings.servers.map(({ url }) => url))
  const shownText = (text: string) => {
    if (servers.has(text)) return labels.label(text)
    return /^[\w+.-]+:\/\//.test(text) ? redactUserInfo(text) : text
  }
  const view = (prefix: string) => (shown: ShownSetting) => {
    const { inSeconds, setting, value } = shown
    const name = `${prefix}${shown.name}`
    return {
      name,
      value: mapped(value, shownText),
      unit: inSeconds === true || (inSeconds === undefined && unitOf(setting) === "ms") ? "s" : null,
      ...originOf(name, shown),
      about: inSeconds === undefined ? descriptionOf(setting) : null
    }
  }
  context.json({
    file: explained.file ?? null,
    settings: [...explained.fleet.map(view("")), ...explained.gateway.map(view("gateway."))]
  })
}
