"""What the stories share: the service and its client, networks and images, memory, figures and the page they go to."""
