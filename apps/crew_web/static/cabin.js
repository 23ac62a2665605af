// The crew's page: the live map, the selection and the actions.

import "./seats.js";
import "./selection.js";
import "./deck.js";
import "./stream.js";
