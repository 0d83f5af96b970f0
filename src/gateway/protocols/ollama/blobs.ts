/**
 * `/api/blobs/{digest}`: the files that models are made of, passed through to the server that the model is made on. They
 * are passed on as they come and never held here, so nothing but that server's disk bounds them.
 */

import { listTimeout } from "../../../management/models.js"
import * as UpstreamControl from "../../../management/upstreamControl.js"
import type { GatewayContext } from "../../GatewayContext.js"
import { make, RequestRejected } from "../../http/errorResponse.js"
import type { RequestContext } from "../../http/RequestContext.js"
import * as Upload from "../../http/upload.js"
import { type KnownServer, serverError } from "./servers.js"
import * as Targets from "./targets.js"
import * as Validation from "./validation.js"

/** Idle timeout of an upload in milliseconds: a slow disk may need long to write. */
const uploadTimeout = 300_000

const isDigest = (text: string): boolean => /^sha256[:-][0-9a-fA-F]{64}$/.test(text)

/** A file goes to one server: the one that is named, else the only one. */
const target = async (gateway: GatewayContext, context: RequestContext, digest: string): Promise<KnownServer> => {
  if (!isDigest(digest)) Validation.refuse(400, "invalid digest format", "invalid_digest", "digest")
  const { all, named } = await Targets.targetsOf(gateway, context, {})
  const [one, ...others] = named ?? all
  if (one === undefined || others.length > 0) throw Targets.unnamed(all, "gets the file")
  context.headers["x-aicortex-server"] = one.label
  return one
}

const gatewayRequest = async (
  gateway: GatewayContext,
  { server }: KnownServer,
  question: UpstreamControl.UpstreamRequest
): Promise<number> => {
  try {
    const { status } = await UpstreamControl.send(gateway.library.transport, server, question)
    return status
  } catch (error) {
    throw error instanceof UpstreamControl.UpstreamFailed ? new RequestRejected(serverError(gateway, error)) : error
  }
}

/** `HEAD /api/blobs/{digest}`: whether the server has that file. */
export const has = async (gateway: GatewayContext, context: RequestContext, digest: string): Promise<void> => {
  const known = await target(gateway, context, digest)
  await gatewayRequest(gateway, known, { method: "HEAD", path: `/api/blobs/${digest}`, timeout: listTimeout })
  context.send(200, "application/json; charset=utf-8", "")
}

/** `POST /api/blobs/{digest}`: sends a file to the server. */
export const upload = async (gateway: GatewayContext, context: RequestContext, digest: string): Promise<void> => {
  const known = await target(gateway, context, digest)
  let stalled = false
  let stop = () => {}
  const parts = Upload.parts(context, gateway.settings.maxBody, () => {
    stalled = true
    stop()
  })
  try {
    const status = await gatewayRequest(gateway, known, {
      method: "POST",
      path: `/api/blobs/${digest}`,
      upload: { parts, length: context.request.headers["content-length"] },
      timeout: uploadTimeout,
      stop: (given) => {
        stop = given
        context.onDisconnect(given)
      }
    })
    Upload.answer(context, status)
  } catch (error) {
    throw stalled ? new RequestRejected(make(408, "The file stopped arriving.", "request_timeout")) : error
  }
}
