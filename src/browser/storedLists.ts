/**
 * Keeps the servers' lists of models, so that a page that is opened again need not ask for them before its first call.
 *
 * Only the first request for a list is answered from there, and only within its lifetime; a repeated
 * request gets the present list. Lists that were requested with a key are not kept.
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { CurrentSettings } from "../Settings.js"
import type { PageStore } from "./store.js"

const isList = /\/(api\/tags|models)$/

/** The client that it needs, with a memory. */
export const layer = (
  store: PageStore
): Layer.Layer<HttpClient.HttpClient, never, HttpClient.HttpClient | CurrentSettings> =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.gen(function* () {
      const client = yield* HttpClient.HttpClient
      const { discoveryTtl } = yield* CurrentSettings
      const refreshed = new Set<string>()
      return HttpClient.make((request, url) =>
        Effect.gen(function* () {
          const { headers, method } = request
          const plain = Object.keys(headers).every((name) => name === "accept")
          if (method !== "GET" || !plain || !isList.test(url.pathname)) return yield* client.execute(request)
          const key = `list:${url.href}`
          const now = yield* Clock.currentTimeMillis
          const kept = refreshed.has(key) ? undefined : store.read(key)
          refreshed.add(key)
          if (kept !== undefined && now - kept.at < discoveryTtl && kept.at <= now) {
            return HttpClientResponse.fromWeb(request, new Response(kept.text))
          }
          const response = yield* client.execute(request)
          if (response.status !== 200) return response
          const text = yield* response.text
          store.write(key, { at: now, text })
          return HttpClientResponse.fromWeb(request, new Response(text, { headers: response.headers }))
        })
      )
    })
  )
