// The crew's page: the live map, the selection and the actions; the PA, video and content.

import "./seats.js";
import "./selection.js";
import "./deck.js";
import "./media.js";
import { start } from "./places.js";
import "./stream.js";

start();
