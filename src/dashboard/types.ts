/** The data of the gateway's endpoints and events: its own types, and nothing else of it. */
export type {
  AttemptView as Attempt,
  BreakerView as Breaker,
  DownloadEvent as Download,
  FleetEvent,
  FleetView as Fleet,
  ModelView as Model,
  RequestEvent,
  RequestView as Request,
  ServerView as Server,
  SessionView as Session
} from "../gateway/events/views.js"
