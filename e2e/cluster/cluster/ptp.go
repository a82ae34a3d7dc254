package main

// linkLocalPtp is the name that our CNI plugin is called by.
const linkLocalPtp = "link-local-ptp"

func linkLocalPtpMain() {}
