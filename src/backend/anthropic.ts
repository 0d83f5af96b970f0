/** Anthropic's Messages API: `POST /v1/messages`, streamed as server-sent events. */
import type { Backend, Sink } from "../Backend.js"
import type { ChatRequest } from "../ChatRequest.js"
import type { Unsupported } from "../Errors.js"
import * as UnsupportedOptions from "../internal/unsupported.js"
import { apiOf, type Server } from "../Server.js"
import type { Exchange, Service as Transport } from "../Transport.js"
import { decoder } from "./anthropicAnswer.js"
import { modelOf } from "./anthropicModels.js"
import * as Request from "./anthropicRequest.js"
import { SignedAnswers } from "./anthropicThinking.js"
import * as Http from "./http.js"
import * as Resume from "./resume.js"

const noEmbeddings: Unsupported = {
  field: "model",
  reason: "Anthropic's API makes no embeddings; name a model of another server"
}

/** `now` is the time in milliseconds since the epoch. */
export const make = (transport: Transport, now: () => number): Backend => {
  const signed = new SignedAnswers()
  const plain = (server: Server, request: ChatRequest, sink: Sink): Exchange =>
    Http.start(
      transport,
      {
        server,
        protocol: "anthropic",
        url: `${apiOf(server, "anthropic")}/messages`,
        accept: "text/event-stream",
        body: Request.body(request, server.url, signed)
      },
      decoder(sink, (blocks) => signed.keep(server.url, blocks)),
      sink,
      now
    )
  return {
    unsupported: Request.unsupported,
    cannotEmbed: () => [noEmbeddings],
    embed: (_server, _request, sink) => {
      sink.fail(UnsupportedOptions.failure([noEmbeddings]))
      return { abort() {}, pause() {}, resume() {} }
    },
    start: plain,
    resume: (server, request, partial, sink, resumeSupport) => {
      const steps = new Resume.Steps()
      const protocol: Resume.ResumeProtocol = {
        plain: (request, sink) => plain(server, request, sink),
        // A model does not think again when it continues an answer.
        open: (request, sink) => plain(server, { ...request, think: undefined }, sink)
      }
      if (Resume.continuable(request) && modelOf(request.model).prefill) {
        Resume.resume(steps, server, request, partial, sink, protocol, resumeSupport)
      } else Resume.startAgain(steps, request, partial, sink, protocol)
      return steps
    }
  }
}
