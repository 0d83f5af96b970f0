/**
 * `/api/blobs/{digest}`: the files that models are made of, passed through to the server that the model is made on. They
 * are passed on as they come and never held here, so nothing but that server's disk bounds them.
 *
 * @since 0.2.0
 */

import type { House } from "../../GatewayContext.js"
import { make, Refusal } from "../../http/errorResponse.js"
import type { Exchange } from "../../http/RequestContext.js"
import * as Upload from "../../http/upload.js"
import * as Control from "../../pipeline/upstreamControl.js"
import { failed, type Known, listTimeout } from "./servers.js"
import * as Targets from "./targets.js"
import * as Wire from "./validation.js"

/** For how long an upload may stand still, in milliseconds: a slow disk has to take what was sent. */
const uploadTimeout = 300_000

const isDigest = (text: string): boolean => /^sha256[:-][0-9a-fA-F]{64}$/.test(text)

/** A file goes to one server: the one that is named, else the only one. */
const target = async (house: House, exchange: Exchange, digest: string): Promise<Known> => {
  if (!isDigest(digest)) Wire.refuse(400, "invalid digest format", "invalid_digest", "digest")
  const { all, named } = await Targets.of(house, exchange, {})
  const [one, ...others] = named ?? all
  if (one === undefined || others.length > 0) throw Targets.unnamed(all, "gets the file")
  exchange.headers["x-aicortex-server"] = one.label
  return one
}

const ask = async (house: House, { server }: Known, question: Control.Question): Promise<number> => {
  try {
    const { status } = await Control.ask(house.library.transport, server, question)
    return status
  } catch (error) {
    throw error instanceof Control.ControlFailed ? new Refusal(failed(house, error)) : error
  }
}

/**
 * `HEAD /api/blobs/{digest}`: whether the server has that file.
 *
 * @since 0.2.0
 * @category handlers
 */
export const has = async (house: House, exchange: Exchange, digest: string): Promise<void> => {
  const known = await target(house, exchange, digest)
  await ask(house, known, { method: "HEAD", path: `/api/blobs/${digest}`, timeout: listTimeout })
  exchange.send(200, "application/json; charset=utf-8", "")
}

/**
 * `POST /api/blobs/{digest}`: sends a file to the server.
 *
 * @since 0.2.0
 * @category handlers
 */
export const upload = async (house: House, exchange: Exchange, digest: string): Promise<void> => {
  const known = await target(house, exchange, digest)
  let stalled = false
  let stop = () => {}
  const parts = Upload.parts(exchange, house.settings.maxBody, () => {
    stalled = true
    stop()
  })
  try {
    const status = await ask(house, known, {
      method: "POST",
      path: `/api/blobs/${digest}`,
      upload: { parts, length: exchange.request.headers["content-length"] },
      timeout: uploadTimeout,
      stop: (given) => {
        stop = given
        exchange.onLeave(given)
      }
    })
    Upload.answer(exchange, status)
  } catch (error) {
    throw stalled ? new Refusal(make(408, "The file stopped arriving.", "request_timeout")) : error
  }
}
